"""Models that answer: policies over scripted trees and over transformers."""
