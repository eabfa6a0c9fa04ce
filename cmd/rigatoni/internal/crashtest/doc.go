// Package crashtest shows whether a pipeline loses or repeats anything when its
// process is killed: it writes changes that it knows to a MongoDB server, runs
// "rigatoni run" as a child that it kills again and again, takes the finished files
// while the child writes others, and compares.
//
// Nothing is taken on trust. The expected changes are those that the server
// acknowledged (to a majority), each with the version of its document. What is in
// finished files must be exactly those, each once: none lost, none twice, none
// made up, each document's in their order and with their contents.
//
// The files that are not finished are read too, as they grow, to see what was
// delivered and how much of that was delivered again: only where a life of the
// pipeline begins, as a repeat, in order and without a gap, of what follows the
// checkpoint that was in the store between the two lives.
//
// # Limits
//
// The pipeline writes ndjson files. Killing a process loses nothing that it has
// given to the operating system: this is no test of power cuts.
package crashtest
