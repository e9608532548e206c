"""What the platform's programs share. Each module stands alone, so that an image needs the packages of those it uses."""
