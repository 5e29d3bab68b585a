"""Journal and verdicts to people: HTML, JUnit XML and Markdown. Loading this package loads nothing heavy."""
