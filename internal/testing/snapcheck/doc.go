// Package snapcheck shows whether a copy that is part of a change stream loses,
// repeats or reorders anything, on a real server, by a checker that knows every
// version of every document.
//
// A [Load] writes at random: inserts, updates, replacements, deletes, transactions,
// drops, recreations and renames, of documents whose _ids are of every type. Each
// write has a stamp, from which the whole contents of the document follow. A
// [Timeline], the bare loop over the driver's change stream, opened before the first
// write, records which stamp each document has from which cluster time on. What a
// pipeline delivers goes to a [Recorder], and [Judge] replays it against the timeline:
//
//   - a document that was copied at S is the one that the server had at S;
//   - what a run delivers is in the order of the stream, a copied document at its S;
//   - of a document that was delivered no change is missing, and none is delivered of
//     one that is still to be copied;
//   - at the end the destination has what the server has, no more and no less.
//
// What is redelivered after a crash may be earlier than what was delivered before it;
// the rules hold within each run, and for the end.
package snapcheck
