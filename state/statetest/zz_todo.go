package statetest

var contextCases []testCase
var errorCases []testCase
var damageCases []testCase
var expiryCases []testCase
var breakCases []testCase
var concurrentCases []testCase
var randomCases []testCase
var closeCases []testCase
