"""The page that runs models in a browser, and a server for it."""
