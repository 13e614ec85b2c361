"""`rlvid bench gpu`: check and measure rlvid on one GPU with one command, without network and data.

parts       what is checked and measured, as a table: names, bars and time limits
runner      runs the parts one after another, in a worker process, and rewrites the JSON after each
worker      that process; a new one is started after a failure, since CUDA may not recover from it
part_run    what a part's function gets: preset, device, model; `record` and `require`
packing, sampling, runs, speed      the functions
"""
