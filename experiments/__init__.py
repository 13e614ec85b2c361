"""One script per research question; `presets/` holds the configs they start from."""
