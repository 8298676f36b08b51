"""How sequences are laid out for one forward pass; used by training and scoring alike.

Today: the plain padded batch, the reference every faster layout is tied to. Knows token ids and a decoder;
knows nothing of templates, labels or losses.
"""
