"""What is installed and works: extras, adapters, places, settings. `rlwatch doctor-self` prints it."""
