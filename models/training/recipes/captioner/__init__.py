"""``captioner``: photos to English and Chinese captions."""
