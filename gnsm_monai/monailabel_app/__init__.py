"""An app of MONAI Label: the worst masks first, for the annotator.

``gnsm monailabel-app`` copies this folder out as ``gnsm_label``, beside a ``main.py`` that names the app. There it runs
in MONAI Label's environment, which cannot hold gnsm_monai (numpy below 2, pydicom below 3). So the modules import each
other, the standard library, numpy and nibabel; :mod:`app` and :mod:`tasks` import MONAI Label, too. Masks are scored by
``gnsm rank``, a process in the environment of gnsm_monai.
"""
