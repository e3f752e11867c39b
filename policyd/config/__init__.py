"""Configuration: TOML files to a checked model, with every problem's place and mend."""
