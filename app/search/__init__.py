"""Search over photos and videos by a sentence or a photo: a folder's index in a file, and collections over HTTP."""
