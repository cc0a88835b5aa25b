"""How long a config takes: the bench behind one interface, real and simulated GPUs, the race of finalists."""
