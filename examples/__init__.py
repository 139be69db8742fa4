"""Things to run and to copy from: a small model server, and the demo that puts the gateway in front of it."""
