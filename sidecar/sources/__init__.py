"""Where alerts come in. A source hands each alert to the function it was given, and knows nothing of what follows."""
