// Command mutants proves the tests of crash recovery: it breaks the recovery
// code in one place at a time, and the tests have to notice.
//
//	make mutants
//
// # The words
//
// A mutant is a file of the tree in which one text is replaced by another: a
// check that is left out, an order that is turned, a thing that is not kept. It
// is caught if the tests that are named for it fail, or do not end; it has
// survived if they pass. A mutant that does not compile, or whose old text is
// not in the file exactly once, is neither: it is broken, and so is the run.
//
// The tree is not touched: the changed file is given to the go command by
// -overlay, so several people may run this, and others may go on working.
//
// # Using it
//
//	go run ./host/chaos/mutants              all, with a table; the last line is
//	                                         "N caught, N survived"
//	go run ./host/chaos/mutants -only trim   those whose name has "trim" in it
//	go run ./host/chaos/mutants -j 2         that many at a time
//
// The exit status is 0 if all were caught.
//
// TestTexts, in make test, checks that each old text is there once, so that the
// list does not rot; TestThree runs three of them.
package main
