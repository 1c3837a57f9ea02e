"""One small server a peer, each in its own idiom, over the same work; their pins stand beside them."""
