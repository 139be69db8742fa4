"""The byte path beside other proxies."""
