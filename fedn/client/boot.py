"""Starts a module of this very installation in a process of its own, whichever Python runs it.

    python -I …/fedn/client/boot.py fedn.client.keeper

An environment of a package's own may hold another fedn, or none: what speaks with the client is the client's.
"""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).parents[1]
    spec = spec_from_file_location("fedn", folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["fedn"] = module_from_spec(spec)
    spec.loader.exec_module(package)
    import_module(sys.argv.pop(1)).main()
