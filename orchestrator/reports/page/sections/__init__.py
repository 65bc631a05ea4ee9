"""The sections of a study's page, a module each: from records to sentences, tables and figures."""
