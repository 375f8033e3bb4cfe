"""What every floor speaks of: images, tiles, settings, errors."""
