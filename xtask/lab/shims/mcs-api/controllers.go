// Package controllers stands in for a module that Cilium imports for one constant and that the module proxy refuses.
package controllers

// DerivedServiceAnnotation names the Service that was derived from a ServiceImport.
const DerivedServiceAnnotation = "multicluster.kubernetes.io/derived-service"
