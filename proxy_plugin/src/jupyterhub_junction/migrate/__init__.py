"""Moving an existing Zero to JupyterHub (z2jh) from CHP to Junction, and back."""
