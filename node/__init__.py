"""One Tidegate node: an ASGI Socket.IO server over a shared event log."""
