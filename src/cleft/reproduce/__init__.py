"""The paper's figures and tables, as studies that run."""
