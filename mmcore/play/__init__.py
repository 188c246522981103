"""``mmcore play``: a local page that asks a trained model anything."""
