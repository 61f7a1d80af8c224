"""The commands of `wireleak`, one module for each group; `wireleak.cli` joins them."""
