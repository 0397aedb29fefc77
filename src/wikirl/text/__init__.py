"""Text: corpora in, packed token ids out."""
