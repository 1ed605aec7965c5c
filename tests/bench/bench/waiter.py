"""An HTTP server whose every answer takes 100 ms."""
import subprocess


class Waiter:
    def __init__(self, site):
        self.process = subprocess.Popen([site.tool("waiter")], stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}/"

    def close(self):
        self.process.terminate()
        self.process.wait()
