// Package crashtest shows whether a pipeline loses or repeats anything when its
// process is killed: it writes known changes to a MongoDB server, runs "rigatoni
// run" as a child that it kills again and again, takes the finished files while the
// child writes others, and compares.
//
// The expected changes are those that the server acknowledged with a majority,
// each with the version of its document. Exactly those must be in finished files,
// each once: none lost, none twice, none made up, those of each document in their
// order and with their contents.
//
// Files that are not finished are read too, as they grow, to see what was delivered
// and how much of it was redelivered: only when a process starts, in order and
// without a gap, from the checkpoint that was in the store.
//
// # Limits
//
// The pipeline writes ndjson files. Killing a process loses nothing that it has
// given to the operating system: this is no test of power cuts.
package crashtest
