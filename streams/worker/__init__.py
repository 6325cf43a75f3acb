"""The live service: Faust app, transport, the task's chunk cycle and its commit log."""
