// The source that every object library needs; what counts is the precompiled header made with it (CatnapBuild.cmake).
// Owner: the build. Left out: everything.
