"""The napari plugin: dock widget, layer bindings, shortcuts."""
