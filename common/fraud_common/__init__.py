"""What the platform's programs share. Modules import few others, so that an image needs the packages of few."""
