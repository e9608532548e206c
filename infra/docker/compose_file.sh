#!/usr/bin/env bash
# Sourced: what docker-compose.yml says about services.

# project_name ENV_FILE: what Compose calls the stack.
project_name() { docker compose --env-file "$1" config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p'; }

# images_of SERVICE...: a line for each of them with its image and whether that is built or pulled.
images_of() {
  docker compose config "$@" | awk -v wanted=" $* " '
    function print_service() {
      if (image != "" && index(wanted, " " service " ")) print service, image, kind
      image = ""; kind = "pulled"
    }
    /^[a-z]/ {print_service(); inside = ($1 == "services:")}
    inside && /^  [a-z0-9-]+:$/ {print_service(); service = substr($1, 1, length($1) - 1)}
    inside && /^    build:/ {kind = "built"}
    inside && /^    image:/ {image = $2}
    END {print_service()}'
}

# one_per_image SERVICE...: those of the services that are built, with their images, each image once. Compose labels an
# image with the service it was built for, so building it for each would make as many images.
one_per_image() { images_of "$@" | awk '$3 == "built" && !seen[$2]++ {print $1, $2}'; }

# ports_of SERVICE...: the settings of the ports that they publish; of all services without arguments.
ports_of() {
  awk -v wanted=" $* " '
    /^[a-z]/ {inside = ($1 == "services:")}
    /^  [a-z0-9-]+:$/ {service = substr($1, 1, length($1) - 1)}
    inside && (wanted == "  " || index(wanted, " " service " ")) {
      line = $0
      while (match(line, /[$][{][A-Z_]+_PORT[}]:[0-9$]/)) {
        print substr(line, RSTART + 2, RLENGTH - 5)
        line = substr(line, RSTART + RLENGTH)
      }
    }' docker-compose.yml
}
