// Package crashtest shows whether a pipeline loses anything when its process is
// killed: it writes changes that it knows to a MongoDB server, runs "rigatoni
// run" as a child that it kills again and again, reads the files that the
// child wrote, and compares.
//
// Nothing is taken on trust. The expected changes are those that the server
// acknowledged (to a majority), each with the version of its document. What
// arrived must be exactly those: none lost, none made up, each document's in
// their order and with their contents. An event may come twice only where a
// life of the pipeline begins, as a repeat, in order and without a gap, of what
// follows the checkpoint that was in the store between the two lives.
//
// # Limits
//
// The pipeline writes ndjson files. Killing a process loses nothing that it has
// given to the operating system: this is no test of power cuts.
package crashtest
