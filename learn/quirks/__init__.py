"""One file for each quirk: what the published code does otherwise than `standard`, and why that matters."""
