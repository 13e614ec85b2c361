"""One script per research question. `presets/` holds the configs that they start from."""
