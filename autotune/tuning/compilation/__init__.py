"""What the compiler makes of a config, seen with no GPU: launches, binaries, resources, instructions."""
