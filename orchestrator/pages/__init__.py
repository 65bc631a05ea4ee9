"""Pages of other programs on a study, served for one user until they are ended. See README.md."""
