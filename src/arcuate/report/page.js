// What the page does around its viewer: sliders, enlarging, saving, copying.
(() => {
  const dialog = document.getElementById("enlarged");
  const holder = dialog.querySelector(".large");

  for (const slider of document.querySelectorAll(".slide input"))
    slider.addEventListener("input", () =>
      slider.closest("figure").querySelector(".pair").style.setProperty("--at", `${slider.value}%`),
    );

  /** The picture of a figure that is seen: of two, the one that takes more of the width. */
  function shown(figure) {
    const at = figure.querySelector(".slide input");
    return figure.querySelector(at && at.value < 50 ? "img.above" : "img, svg");
  }

  function save(address, name) {
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
  }

  /** A chart as it stands alone: without what only this page defines. */
  function alone(svg) {
    return new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
  }

  async function saveChart(svg, name, kind) {
    const address = URL.createObjectURL(alone(svg));
    if (kind === "svg") return save(address, `${name}.svg`);
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    const { width, height } = svg.viewBox.baseVal;
    [canvas.width, canvas.height] = [3 * width, 3 * height];
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    save(canvas.toDataURL("image/png"), `${name}.png`);
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-do]");
    if (!button) return;
    const { do: what, name } = button.dataset;
    const figure = button.closest("figure");
    if (what === "enlarge") {
      holder.replaceChildren(shown(figure).cloneNode(true));
      dialog.querySelector(".bar span").textContent = figure.querySelector("figcaption")?.textContent ?? "";
      dialog.showModal();
    } else if (what === "close") dialog.close();
    else if (what === "png" && figure.querySelector("img")) save(shown(figure).src, `${name}.png`);
    else if (what === "png" || what === "svg") await saveChart(figure.querySelector("svg"), name, what);
    else if (what === "copy") {
      const source = document.getElementById(button.dataset.of);
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      try {
        await navigator.clipboard.writeText(source.innerText);
        button.textContent = "Copied";
      } catch {
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      }
    }
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
})();
