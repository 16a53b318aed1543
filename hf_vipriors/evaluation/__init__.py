"""Measuring: nearest neighbours, linear probes, accuracy with its uncertainty, and the report a person reads.

The functions here take tensors, arrays and dataclasses and know nothing of data sets or networks, so each can be used
alone: ``from hf_vipriors.evaluation.knn import weighted_knn``. Nothing is imported at this level, because the report
pulls in matplotlib and the metrics pull in ``evaluate`` (several seconds).
"""
