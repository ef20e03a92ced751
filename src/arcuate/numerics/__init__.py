"""Mathematics on arrays; knows no MRI words."""
