"""OpenStack Swift in the place of the object store, listening everywhere: swift_objects.py FOLDER PORT."""

import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "support"))
from swift_s3 import Swift


class Objects(Swift):
    def __init__(self, root: Path, port: int) -> None:
        super().__init__(root)
        self._ports["proxy"], self.url = port, f"http://127.0.0.1:{port}"

    def _configure(self) -> None:
        super()._configure()
        settings = self._root / "proxy.conf"
        settings.write_text(settings.read_text().replace("bind_ip = 127.0.0.1", "bind_ip = 0.0.0.0"))


if __name__ == "__main__":
    with Objects(Path(sys.argv[1]) / "swift", int(sys.argv[2])):
        signal.pause()
