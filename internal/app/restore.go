package app

// restoringName is a file in a data folder that is being restored: no service starts
// from the folder before it is gone.
const restoringName = "RESTORING"
