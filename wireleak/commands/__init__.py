"""The commands of `wireleak`, a module a group; `wireleak.cli` joins them."""
