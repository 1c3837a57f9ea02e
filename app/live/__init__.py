"""The page at /live: the browser's microphone and camera, and the words as they come. It loads nothing from outside."""
