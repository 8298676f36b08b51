"""gram-135m: its data, recipe, arms and tests, as written down in experiments/real_text.md."""
