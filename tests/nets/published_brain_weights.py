"""Weights in the form in which HD-BET 2 is published (nnU-Net's plans, dataset and checkpoint), made here.

The network is small and does what can be foretold: its mask is where the normalised image is above 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def _plans() -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    arguments = {
        "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": None, "norm_op_kwargs": {}, "dropout_op": None,
        "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [32, 32, 32], "median_image_size_in_voxels": [40.0, 40.0, 40.0], "spacing": [4.0, 4.0, 4.0],
        "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling, "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1}, "batch_dice": False,
        "architecture": {
            "network_class_name": network, "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    return {
        "dataset_name": "Dataset001_brains", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, 4.0, 4.0],
        "original_median_shape_after_transp": [40, 40, 40], "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {"mean": 0.0, "std": 1.0}},
    }  # fmt: skip


def _weights() -> dict[str, Any]:
    """Every tensor 0 but for one path that carries the image to the second class."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    arguments = dict(_plans()["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"])
    arguments |= {"conv_op": torch.nn.Conv3d, "nonlin": torch.nn.LeakyReLU}
    network = PlainConvUNet(input_channels=1, num_classes=2, deep_supervision=False, **arguments)
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for name, tensor in state.items():
        if "encoder.stages.0" in name and name.endswith("weight"):  # shared under several names
            tensor[0, 0, 1, 1, 1], tensor[1, 0, 1, 1, 1] = 1, -1
        elif name.startswith("decoder.stages.0") and name.endswith("weight"):
            skipped = tensor.shape[1] // 2  # after the channels that come from below
            tensor[0, skipped, 1, 1, 1], tensor[1, skipped + 1, 1, 1, 1] = 1, 1
        elif name.startswith("decoder.seg_layers.0") and name.endswith("weight"):
            tensor[1, 0], tensor[1, 1] = 1, -1
    return state


def write_brain_weights(folder: Path) -> Path:
    """dataset.json, plans.json and fold_all/checkpoint_final.pth, as nnU-Net writes them at the end of a training."""
    import torch

    dataset = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "brain": 1}, "numTraining": 1}
    dataset["file_ending"] = ".nii.gz"
    plans = _plans()
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": _weights(),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.9)], "dice_per_class": [[np.float32(0.9)]], "lrs": [0.01]},
        "_best_ema": np.float64(0.9),
        "current_epoch": 1000,
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": "all", "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")
    return folder
