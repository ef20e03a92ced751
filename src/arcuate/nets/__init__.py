"""Networks: arrays in, arrays out; torch is imported inside the functions that need it."""
