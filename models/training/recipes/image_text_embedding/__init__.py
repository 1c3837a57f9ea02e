"""``image-text-embedding``: photos, English and Chinese sentences in one space."""
