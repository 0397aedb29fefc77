"""From a study's folder to what it allows to be said: reading, statistics, verdict, page and text."""
