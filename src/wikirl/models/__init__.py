"""Sequence models: the lean GPT-2, backbones around it, and the Decision Transformer on top."""
