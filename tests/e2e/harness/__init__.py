"""What the end-to-end tests stand on: real servers, a worker as a process, and clients not ours."""
